//! The clock alone, against simulated senders.
