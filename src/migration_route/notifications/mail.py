"""How does a message become an e-mail? By the project's own mail settings."""

from __future__ import annotations

from django.core.mail import EmailMessage

from migration_route.conf.types import Mail
from migration_route.notifications.messages import mail_text
from migration_route.notifications.retry import DeliveryFailure, within
from migration_route.presentation.schemas.runs import HappeningMessage


def send(mail: Mail, message: HappeningMessage) -> DeliveryFailure | None:
    """Send an e-mail once; None when the mail server has taken it."""
    letter = EmailMessage(
        subject=f"{mail.subject_prefix}{message.summary}",
        body=mail_text(message),
        from_email=mail.sender,
        to=list(mail.to),
        headers={"Migration-Route-Event-Id": message.id},
    )

    def attempt() -> DeliveryFailure | None:
        return (
            None if letter.send() else DeliveryFailure(error="the mail server took nothing")
        )

    return within(mail.timeout, attempt, lambda: None)
