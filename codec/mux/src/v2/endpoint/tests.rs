//! Two endpoints on one made-up clock.
