"""``python -m lore_operator`` and ``lore-operator``."""

from lore import startup


def main() -> None:
    startup.run("lore_operator.main")


if __name__ == "__main__":
    main()
