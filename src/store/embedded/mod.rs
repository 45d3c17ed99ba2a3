//! redb.
use crate::domain::Clock;
use crate::store::{CommitSink, OpenError, Store, StoreConfig};
use std::sync::Arc;
/// Opens.
pub fn open(
    _config: &StoreConfig,
    _clock: Arc<dyn Clock>,
    _sink: Arc<dyn CommitSink>,
) -> Result<Arc<dyn Store>, OpenError> {
    Err(OpenError::InUse { path: _config.data_dir.clone() })
}
