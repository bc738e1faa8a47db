//! Laws R1-R11 as predicates over a cluster.
