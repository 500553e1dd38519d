"""A seeded simulation of writers and runners over a store whose clock, faults and history are in the test's hand."""
