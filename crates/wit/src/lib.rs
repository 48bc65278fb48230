//! Room `wit`.
