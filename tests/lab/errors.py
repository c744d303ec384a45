"""What the lab raises."""


class LabError(Exception):
    """The lab could not do what it was asked; the text says what was seen."""


class GuestGone(LabError):
    """The guest died or rebooted while a command ran in it."""


class NoAnswer(LabError):
    """The guest did not answer in time: frozen, wedged or just slow."""
