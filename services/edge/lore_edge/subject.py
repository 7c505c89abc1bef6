"""Who asks. Until there is authentication, everyone is the same subject."""

from lore_edge.wire import Scope

ANONYMOUS = "anonymous"


def subject_of(scope: Scope) -> str:
    """The one place that says on whose behalf a call is made."""
    del scope
    return ANONYMOUS
