"""What others need to test against this framework: transport conformance, faults, stub models, simulation."""
