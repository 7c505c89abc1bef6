"""``python -m lore_generator`` and ``lore-generator``."""

from lore import startup


def main() -> None:
    startup.run("lore_generator.main")


if __name__ == "__main__":
    main()
