"""Questions whose answers are long, and how all sides of a benchmark decode them."""

ASKED = (
    "Tell me a long story about a lighthouse keeper and his {}.",
    "Write a long letter to a friend about your {}.",
    "Describe in many words what a {} is and how it is made.",
    "Explain step by step, in detail, how to repair a {}.",
)
THINGS = ("boat", "clock", "violin", "bicycle", "window", "lamp", "kite", "piano", "bridge", "map")
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


def prompts_of(turn: int, streams: int) -> list[str]:
    """Others in each turn, so that no side finds a prompt in its cache; alike for all sides."""
    kinds = [(thing, asked) for thing in THINGS for asked in ASKED]
    chosen = [kinds[(turn * 7 + number) % len(kinds)] for number in range(streams)]
    return [f"{turn}.{number}. " + a.format(t) for number, (t, a) in enumerate(chosen)]
