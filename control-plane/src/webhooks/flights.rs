//! Which attempts are under way: a bounded number for each receiver, so that a slow one holds up nobody else.
use std::collections::BTreeMap;

/// Attempts at once to one receiver. Each is about another subject: the rows see to that.
const AT_ONCE: usize = 4;

/// The attempts under way.
#[derive(Debug, Clone, Default)]
pub struct Flights {
    of_webhook: BTreeMap<String, Vec<String>>,
}

impl Flights {
    /// How many more attempts to this receiver may begin.
    pub fn free(&self, webhook: &str) -> usize {
        AT_ONCE.saturating_sub(self.under_way(webhook).len())
    }

    /// Deliveries to this receiver that are being attempted.
    pub fn under_way(&self, webhook: &str) -> &[String] {
        self.of_webhook.get(webhook).map_or(&[], Vec::as_slice)
    }

    /// An attempt begins; false when it must not, because the same is under way or there are enough.
    pub fn begin(&mut self, webhook: &str, delivery: &str) -> bool {
        if self.free(webhook) == 0 || self.under_way(webhook).iter().any(|other| other == delivery) {
            return false;
        }
        self.of_webhook.entry(webhook.to_owned()).or_default().push(delivery.to_owned());
        true
    }

    /// An attempt is over, and what came of it is written.
    pub fn end(&mut self, webhook: &str, delivery: &str) {
        if let Some(deliveries) = self.of_webhook.get_mut(webhook) {
            deliveries.retain(|other| other != delivery);
            if deliveries.is_empty() {
                self.of_webhook.remove(webhook);
            }
        }
    }

    /// Attempts under way in all.
    pub fn len(&self) -> usize {
        self.of_webhook.values().map(Vec::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.of_webhook.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_receiver_has_few_attempts_and_another_its_own() {
        let mut flights = Flights::default();
        for delivery in ["a", "b", "c", "d"] {
            assert!(flights.begin("slow", delivery));
        }
        assert!(!flights.begin("slow", "e"), "enough for one");
        assert!(flights.begin("quick", "e"), "not for another");
        assert_eq!((flights.free("slow"), flights.free("quick"), flights.len()), (0, 3, 5));
        flights.end("slow", "b");
        assert_eq!(flights.under_way("slow"), ["a", "c", "d"]);
        assert!(flights.begin("slow", "e"));
    }

    #[test]
    fn nothing_is_under_way_twice_and_what_is_over_leaves_nothing() {
        let mut flights = Flights::default();
        assert!(flights.begin("w", "a") && !flights.begin("w", "a"));
        flights.end("w", "a");
        flights.end("w", "a");
        flights.end("nobody", "a");
        assert!(flights.is_empty());
        assert!(flights.begin("w", "a"), "it may be tried again");
    }
}
