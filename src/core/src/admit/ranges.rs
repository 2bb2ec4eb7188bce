//! Disjoint ranges of ports and who owns them.
