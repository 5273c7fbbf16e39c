"""`python -m firestate`, which is the command `firestate`."""

from firestate.cli import main

if __name__ == "__main__":
    main()
