"""What a page of a report holds."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The text of a page's cells without the intervals behind numbers, its pictures, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells, self.images, self.open, self.outside = [], [], [], []
        self.interval = False
        self.feed(text)

    def after(self, cell: str) -> str:
        return self.cells[self.cells.index(cell) + 1]

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(values["alt"])
        if tag in ("td", "th"):
            self.cells.append("")
        self.interval = values.get("class") == "ends"
        self.outside += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.interval = False

    def handle_data(self, data):
        if {"td", "th"} & set(self.open) and not self.interval:
            self.cells[-1] += data
