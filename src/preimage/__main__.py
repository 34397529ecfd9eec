"""``python -m preimage`` is the command `preimage`."""

from .cli import main

if __name__ == "__main__":
    main()
