"""`python -m h1r_cli` is `h1r`."""

from h1r_cli.main import main

main()
