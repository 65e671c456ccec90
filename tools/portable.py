"""The template in names that every system allows: Windows forbids < and >, which begin and end what is rendered.

The marks of Jinja get others in names and texts, and what is generated stays the same. cookiecutter takes the zip file.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile

PRODUCT = "<<cookiecutter.project>>/"
KEPT = (PRODUCT, "hooks/", "cookiecutter.json", "LICENSE", "README.md")
MARKS = {"<<": ("{=", ">>", "=}"), "<%": ("{~", "%>", "~}"), "<#": ("{!", "#>", "!}")}
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
SAME_TIME = (1980, 1, 1, 0, 0, 0)  # of every file, so that the same commit gives the same bytes


def converted(text: str) -> str:
    """``text`` with the other marks.

    Raises:
        ValueError: it holds one of them already.
    """
    for begin, (other_begin, end, other_end) in MARKS.items():
        if other_begin in text:
            raise ValueError(f"holds {other_begin}, which marks what is rendered in the portable edition")
        pattern = f"{re.escape(begin)}(.*?){re.escape(end)}"
        text = re.sub(pattern, rf"{other_begin}\1{other_end}", text, flags=re.S)
    return text


def packed(archive: bytes, folder: str) -> bytes:
    """The zip file of a tar file of the template; all is in ``folder``.

    Raises:
        ValueError: a name is not legal everywhere, or a file holds the other marks; with its name.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(zipfile.ZipInfo(f"{folder}/", SAME_TIME), b"")  # by which cookiecutter knows the folder
        for member in source:
            name = member.name
            if not member.isfile() or not name.startswith(KEPT):
                continue
            content = source.extractfile(member).read()
            try:
                name = converted(name)
                if b"\0" not in content and name != "README.md":
                    content = converted(content.decode()).encode()
            except ValueError as error:
                raise ValueError(f"{member.name}: {error}") from None
            if any(FORBIDDEN.search(part) for part in name.split("/")):
                raise ValueError(f"{member.name}: {name} is no name on Windows")
            target.writestr(zipfile.ZipInfo(f"{folder}/{name}", SAME_TIME), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
