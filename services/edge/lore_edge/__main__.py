"""``python -m lore_edge`` and ``lore-edge``."""

from lore import startup


def main() -> None:
    startup.run("lore_edge.main")


if __name__ == "__main__":
    main()
