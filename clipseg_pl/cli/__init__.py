"""The command line: LightningCLI, its arguments, and one module for each other command."""
