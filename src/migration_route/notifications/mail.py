"""Delivery by email, with the project's own email settings."""

from __future__ import annotations

from django.core.mail import EmailMessage

from migration_route.conf.types import Mail
from migration_route.notifications.messages import mail_text
from migration_route.notifications.retry import DeliveryFailure, run_with_timeout
from migration_route.presentation.schemas.runs import NotificationMessage


def send(mail: Mail, message: NotificationMessage) -> DeliveryFailure | None:
    """Send an email once; return None if the mail server accepted it."""
    email = EmailMessage(
        subject=f"{mail.subject_prefix}{message.summary}",
        body=mail_text(message),
        from_email=mail.sender,
        to=list(mail.to),
        headers={"Migration-Route-Event-Id": message.id},
    )

    def attempt() -> DeliveryFailure | None:
        return (
            None
            if email.send()
            else DeliveryFailure(error="the mail server accepted nothing")
        )

    return run_with_timeout(mail.timeout, attempt, lambda: None)
