"""The web page: plain and accelerated side by side. `build_app` makes it, `hasten app` serves it."""
