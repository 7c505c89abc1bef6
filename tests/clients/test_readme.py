from tests.clients.readme import README, rendered


def test_the_table_of_clients_and_parameters_is_current() -> None:
    text = README.read_text()
    assert rendered(text) == text, "make readme"
