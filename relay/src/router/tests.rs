//! Routes, turns and bounds of the router, without a runtime.
