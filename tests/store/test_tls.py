"""A store behind TLS that wants a client certificate."""

import pytest

from lore.store import StoreUnavailable, ValkeyStore
from tests.valkeys import Tls


async def test_a_store_is_reached_by_tls_with_a_client_certificate(tls: Tls) -> None:
    store = ValkeyStore(tls.url)
    await store.connect()
    assert await store.view("nobody") is None
    await store.close()


async def test_without_a_client_certificate_there_is_no_store(tls: Tls) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await ValkeyStore(tls.anonymous_url).connect()


async def test_a_server_that_an_unknown_authority_signed_is_not_trusted(tls: Tls) -> None:
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await ValkeyStore(f"valkeys://127.0.0.1:{tls.port}").connect()


async def test_a_server_must_be_who_the_url_says_unless_that_is_waived(tls: Tls) -> None:
    url = tls.url.replace("127.0.0.1", "localhost")
    with pytest.raises(StoreUnavailable, match="not valid for 'localhost'"):
        await ValkeyStore(url).connect()
    store = ValkeyStore(f"{url}&ssl_check_hostname=no")
    await store.connect()
    await store.close()
