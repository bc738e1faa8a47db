//! The checker on histories known to be good, known to be bad, and judged by trying every order.

mod cases;
mod random;
mod reading;
