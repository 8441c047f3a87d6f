"""Tests: fixtures in the `fix_*` plugins, one test module for each module or behaviour."""
