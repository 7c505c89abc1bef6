from graphlib import CycleError

import pytest

from tests.layers import ARCHITECTURE, arrows, layers, rendered

IMPORTS = {"app": {"http", "wire"}, "http": {"wire"}, "auth": {"wire"}, "wire": set[str]()}


def test_the_picture_of_the_layers_is_current() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert rendered(text) == text, "make layers"


def test_a_box_is_above_all_that_it_imports() -> None:
    assert layers(IMPORTS) == [["wire"], ["auth", "http"], ["app"]]


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    assert arrows(IMPORTS) == [("app", "http"), ("auth", "wire"), ("http", "wire")]


def test_a_circle_has_no_layers() -> None:
    with pytest.raises(CycleError):
        layers({"auth": {"create"}, "create": {"auth"}})
