"""What every module uses: enums, errors, events, time and redaction. Free of Django."""
