"""What a store's URL says (``location.py``)."""

from pathlib import Path

import pytest
from valkey.asyncio.connection import SSLConnection

from lore.store import ValkeyStore
from lore.store.valkey.client.location import Address, Location

SECRET = "s3cret"


def test_a_url_names_servers_user_and_database() -> None:
    location = Location("valkey://some%40one:s3%2Fcret@example.org:7000/3")
    assert (location.way, location.addresses) == ("server", [Address("example.org", 7000)])
    _, arguments = location.connecting(Address("other", 1))
    expected = {"username": "some@one", "password": "s3/cret", "db": 3, "host": "other", "port": 1}
    assert arguments == expected


def test_a_url_of_sentinels_names_them_their_service_and_their_own_password() -> None:
    url = "valkey+sentinel://:data@one,two:7001,[::1]:7002/mine?sentinel_password=watch"
    location = Location(url)
    assert location.way == "sentinel"
    assert location.service == "mine"
    assert [str(address) for address in location.addresses] == [
        "one:26379",
        "two:7001",
        "[::1]:7002",
    ]
    at = location.addresses[0]
    assert location.connecting(at)[1]["password"] == "data"
    assert location.connecting(at, sentinel=True)[1]["password"] == "watch"
    assert "db" not in location.connecting(at)[1]


def test_a_url_of_a_cluster_names_its_nodes() -> None:
    location = Location("valkey+cluster://one:7000,two")
    assert location.way == "cluster"
    assert location.addresses == [Address("one", 7000), Address("two", 6379)]


@pytest.mark.parametrize("way", ["", "+cluster", "+sentinel"])
def test_tls_checks_the_name_of_the_server_unless_told_not_to(way: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.touch()
    url = f"valkeys{way}://host:1/{'mine' if way == '+sentinel' else ''}?ssl_ca_certs={ca}"
    for sentinel in (False, True):
        kind, arguments = Location(url).connecting(Address("host", 1), sentinel=sentinel)
        assert kind is SSLConnection
        if way == "+sentinel" or not sentinel:
            assert arguments["ssl_check_hostname"] is True
            assert arguments["ssl_ca_certs"] == str(ca)
    arguments = Location(url + "&ssl_check_hostname=no").connecting(Address("host", 1))[1]
    assert arguments["ssl_check_hostname"] is False


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost", "must begin with one of valkey://"),
        ("valkey+raft://localhost", "must begin with one of valkey://"),
        (f"valkey://u:{SECRET}@[::1", "no valid host:port"),
        (f"valkey://u:{SECRET}@one:1,two:2", r"valkey\+cluster://"),
        (f"valkey://u:{SECRET}@localhost?no_such_option={SECRET}", "no_such_option"),
        (f"valkey://u:{SECRET}@localhost?ssl_ca_certs=x", "ssl_ca_certs"),
        (f"valkey://u:{SECRET}@localhost:port", "no valid host:port"),
        (f"valkey://u:{SECRET}/more@localhost", "no valid host:port"),
        (f"valkey://u:{SECRET}@localhost/nought", "number of a database"),
        (f"valkey://u:{SECRET}@localhost?db=one", "db"),
        (f"valkey+sentinel://u:{SECRET}@localhost", "name of the service"),
        (f"valkey+cluster://u:{SECRET}@localhost/1", "no database"),
        (f"valkeys://u:{SECRET}@localhost?ssl_ca_certs=/nowhere/ca", "ssl_ca_certs: cannot read"),
        (f"valkeys://u:{SECRET}@localhost?ssl_certfile=/nowhere/me", "ssl_certfile: cannot read"),
    ],
)
def test_an_impossible_url_is_refused_in_a_line_without_its_secrets(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as found:
        ValkeyStore(url)
    text = str(found.value)
    assert SECRET not in text
    assert "\n" not in text
