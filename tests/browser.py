"""A real browser to look at pages with, where one is installed."""

from __future__ import annotations

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no package playwright: pip install -e '.[dev]'")
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")

CONTRAST = """() => {
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [...parts.slice(0, 3), parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const value = colour[i] / 255;
    return sum + weight * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = (element) => {
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 || !element.parentElement ? own : over(own, ground(element.parentElement));
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = [Infinity, ""];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.matches("script, noscript") || !element.checkVisibility()) continue;
    if (element.matches(".nothing")) continue; // a dot where there is nothing to read
    const below = ground(element);
    const both = [over(parse(getComputedStyle(element).color), below), below].map(luminance).sort((a, b) => b - a);
    const ratio = (both[0] + 0.05) / (both[1] + 0.05);
    if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 120)];
  }
  return worst;
}"""
