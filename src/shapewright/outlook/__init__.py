"""Where compute came from, where efficiency goes, and what hardware and ideas would help most."""
