"""`python -m camfleet`."""

from camfleet.main import main

main()
