"""Values, enums, errors, events, time and redaction: what every module uses."""
