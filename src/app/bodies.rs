//! Bodies of uploads that come in: one at a time for each place that takes one. A client that sends the bytes again, since it lost
//! its connection, is not kept waiting for what still seems to come on that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entity::UploadIntentId;
use tokio_util::sync::CancellationToken;

/// What takes a body: an upload, or a part of one by its number.
pub type Place = (UploadIntentId, Option<i32>);

/// The bodies that come in.
#[derive(Clone, Default)]
pub struct Bodies(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    count: u64,
    bodies: HashMap<Place, (u64, CancellationToken)>,
}

/// A body that comes in, until this is dropped.
pub struct Body {
    bodies: Bodies,
    place: Place,
    number: u64,
    replaced: CancellationToken,
}

impl Bodies {
    /// A body begins, and the one that came for the same place ends.
    pub fn begin(&self, place: Place) -> Body {
        let replaced = CancellationToken::new();
        let mut running = self.running();
        running.count += 1;
        let number = running.count;
        if let Some((_, earlier)) = running.bodies.insert(place, (number, replaced.clone())) {
            earlier.cancel();
        }
        drop(running);
        Body { bodies: self.clone(), place, number, replaced }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// Returns when another one begins for the same place.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut running = self.bodies.running();
        if running.bodies.get(&self.place).is_some_and(|(number, _)| *number == self.number) {
            running.bodies.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_newest_body_counts() {
        let bodies = Bodies::default();
        let id = UploadIntentId(Uuid::from_u128(1));
        let is_replaced = |body: &Body| body.replaced().now_or_never().is_some();
        let (first, part) = (bodies.begin((id, None)), bodies.begin((id, Some(1))));
        let second = bodies.begin((id, None));
        assert!(is_replaced(&first) && !is_replaced(&part) && !is_replaced(&second));
        drop(first);
        let third = bodies.begin((id, None));
        assert!(is_replaced(&second) && !is_replaced(&third));
        drop((second, third, part));
        assert!(bodies.running().bodies.is_empty());
    }
}
