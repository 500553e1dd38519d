"""Operations: what operators do."""
