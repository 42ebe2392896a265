"""python -m orchestrator.cli, as `coe`."""

from orchestrator.cli.main import main

main()
