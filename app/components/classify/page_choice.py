"""The choice of a page of TIFF files with several images."""

import hashlib
from dataclasses import replace

import streamlit as st

from app.components.classify.session_images import HeldImage
from app.components.layout import escape_markdown
from bc_model.data import TiffPage, find_default_page, list_pages, select_page

_MAX_SHOWN = 6
"""Files with a choice. The largest page of further files is used."""


def select_pages(images: list[HeldImage]) -> list[HeldImage]:
    """Show a choice for each file with several pages, and return the images with their pages.

    Parameters
    ----------
    images : list of HeldImage
        The images on the page.

    Returns
    -------
    list of HeldImage
        The same images. One with another page than the default has the content and the hash of
        this page, so that no cache returns the result of another one.
    """
    pages = {image.sha256: list_pages(image.data) for image in images}
    several = [image for image in images if len(pages[image.sha256]) > 1]
    chosen: dict[str, int] = {}
    if several:
        with st.container(horizontal=True, gap="medium"):
            for image in list({image.sha256: image for image in several}.values())[:_MAX_SHOWN]:
                chosen[image.sha256] = _select_page(image, pages[image.sha256])
    return [_take_page(image, chosen.get(image.sha256), pages[image.sha256]) for image in images]


def _select_page(image: HeldImage, pages: tuple[TiffPage, ...]) -> int:
    labels = {
        page.number: f"{page.number}: {page.width_px} x {page.height_px} px" for page in pages
    }
    return st.selectbox(
        f"Page of {escape_markdown(image.name)}",
        list(labels),
        index=find_default_page(pages) - 1,
        format_func=labels.__getitem__,
        key=f"tiff-page-{image.sha256}",
        persist_state="session",
        width=260,
    )


def _take_page(image: HeldImage, page: int | None, pages: tuple[TiffPage, ...]) -> HeldImage:
    if page is None or page == find_default_page(pages):
        return image
    data = select_page(image.data, page, image.name)
    sha256 = hashlib.sha256(data).hexdigest()
    return replace(image, data=data, sha256=sha256, page=page, original=image)
