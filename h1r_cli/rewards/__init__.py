"""What verifiers share."""
