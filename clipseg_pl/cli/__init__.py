"""Command line: LightningCLI, its arguments, and one module per additional command."""
