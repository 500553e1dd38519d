"""A user's asynchronous application: it is checked with ``mypy --strict``, and run."""

from __future__ import annotations

from typing import Any, assert_type

from users_plugin import Account, accounts, mails

from runner import (
    ALL,
    AppendResult,
    AsyncEventStore,
    AsyncFollowing,
    AsyncSubscription,
    AsyncView,
    NewEvent,
    RecordedEvent,
    WaitTimeout,
    catch_up,
    follow,
    state_at,
)


async def show(view: AsyncView[Account], account: str) -> int:
    row = await view.get(account)
    return 0 if row is None else row["balance"]


async def wait(following: AsyncFollowing, view: AsyncView, result: AppendResult) -> str:
    try:
        await following.wait_live()
        await following.wait_for(result, timeout=10)
        await view.wait_for(result, timeout=None)
    except WaitTimeout as late:
        return f"{late.state} {late.lag}"
    return ""


async def first(subscription: AsyncSubscription) -> RecordedEvent | None:
    async for event in subscription:
        assert_type(event, RecordedEvent)
        if subscription.caught_up:
            subscription.unsubscribe()
    return await subscription.poll(timeout=0.1)


async def main(url: str, name: str) -> None:
    async with AsyncEventStore.open(url, name=name) as store:
        opened = await store.append("account-1", NewEvent("Opened", {"owner": "Ada"}))
        assert_type(opened, AppendResult)
        numbers = [event.number async for event in store.read_stream("account-1", opened.version - 1)]
        assert_type(numbers, list[int])
        assert [event.position async for event in store.read_all(backwards=True)] == [1]
        assert (await store.info()).partitions == 1

        assert_type(await catch_up(store, accounts, mails), int)
        view = AsyncView(store, accounts)
        assert_type(view, AsyncView[Account])
        assert_type(AsyncView(store, "accounts"), AsyncView[Any])
        assert_type([row async for _, row in view.items()], list[Account])
        assert_type([key async for key in view], list[str])
        assert (await show(view, "account-1"), await view.count()) == (0, 1)
        assert_type(await state_at(store, accounts), dict[str, Account])
        assert_type(await state_at(store, accounts, position=1, key="account-1"), Account | None)

        async with follow(store, accounts, mails) as following:
            result = await store.append("account-1", NewEvent("Deposited", {"amount": 2}))
            assert await wait(following, view, result) == ""
        async with store.subscribe(ALL) as subscription:
            assert await first(subscription) is None
