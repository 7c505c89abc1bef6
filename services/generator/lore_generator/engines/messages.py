"""What an engine reads of a request."""

from lore.request import Message, StreamRequest


def messages_of(request: StreamRequest) -> list[Message]:
    """The conversation; a bare question is one user message."""
    if request.messages is not None:
        return request.messages
    assert request.question is not None
    return [Message(role="user", content=request.question)]
