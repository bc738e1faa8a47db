//! Client sessions: retries that apply once.
