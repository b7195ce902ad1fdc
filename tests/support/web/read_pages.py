"""Reading a page as a browser would, without one."""

import re
from html.parser import HTMLParser


class ReadPage(HTMLParser):
    """The elements and the texts of a page.

    Attributes:
        elements: name and attributes of each element.
        texts: the texts outside scripts and style sheets.
    """

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        """All texts, on one line."""
        return " ".join(" ".join(self.texts).split())

    def named(self, tag):
        """The attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]


def addresses(page):
    """What a page would load: none of it may be elsewhere."""
    read = ReadPage(page)
    links = [
        value
        for _, attributes in read.elements
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action", "xlink:href")
    ]
    return [link for link in links if not link.startswith(("data:", "#"))] + re.findall(r"url\(|@import", page)
