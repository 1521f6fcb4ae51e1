"""The `camfleet` command line; imports a program only when its subcommand runs."""
