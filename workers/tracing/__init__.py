"""Traces: where a request's time goes, across processes. Nothing of OpenTelemetry is imported where they are off."""
