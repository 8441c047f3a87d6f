"""The report of an incident bundle: one HTML file that opens offline, with nothing that runs."""

from archiver.bundle_page.page import Made, render

__all__ = ["Made", "render"]
