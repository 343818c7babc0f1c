"""Lets a failed comparison inside the fleet say what differs, as in a test."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.properties.fleet", "tests.properties.fleet_lives", "tests.properties.fleet_rough")
