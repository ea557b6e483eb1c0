//! Dialling against small scripted servers on loopback.

mod answers;
mod proxies;
mod redirects;
mod support;
mod tls;
