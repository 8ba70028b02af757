//! The extension module `flexcache_rs._core`: registration only.

use pyo3::prelude::*;

mod py;

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use crate::py::disk::{
        _compress, _decompress, Disk, DiskCache, DiskHold, DiskKeys, DiskShards, DiskTransaction,
        SqliteFinder, Timeout, disk_decompress_lz4, disk_open_value, disk_remove_value, guard_sqlite3,
        scan_pickle,
    };
    #[pymodule_export]
    use crate::py::memoize::bound_method::BoundMemoized;
    #[pymodule_export]
    use crate::py::memoize::memoized::{Memoized, cache_of_results, call_directly};
    #[pymodule_export]
    use crate::py::memory::constructor::set_registrar;
    #[pymodule_export]
    use crate::py::memory::core_errors::TooLargeError;
    #[pymodule_export]
    use crate::py::memory::leasing::{discard_void_loads, has_leased_load, loads_that_wait};
    #[pymodule_export]
    use crate::py::memory::load_in_background::{refresh_in_task, refresh_in_thread};
    #[pymodule_export]
    use crate::py::memory::load_in_task::load_in_task;
    #[pymodule_export]
    use crate::py::memory::load_in_thread::{discard_loads_of, load, loads_in_progress};
    #[pymodule_export]
    use crate::py::memory::near::NearCache;
    #[pymodule_export]
    use crate::py::memory::options::{random, tuple_of_tags};
    #[pymodule_export]
    use crate::py::memory::pickle::restore;
    #[pymodule_export]
    use crate::py::memory::state::FlexCache;
    #[pymodule_export]
    use crate::py::memory::stats::CacheStats;
    #[pymodule_export]
    use crate::py::memory::views::{
        CacheItemsView, CacheIterator, CacheKeysView, CacheValuesView, CacheView,
    };
    #[pymodule_export]
    use crate::py::object::block::{AwaitedBlock, Block, show_once};
    #[pymodule_export]
    use crate::py::object::canonical_key::canonical_key;
    #[pymodule_export]
    use crate::py::object::did_you_mean::unexpected_argument;
    #[pymodule_export]
    use crate::py::object::single_use::is_single_use;
    #[pymodule_export]
    use crate::py::object::standing_time::StandingTime;
    #[pymodule_export]
    use crate::py::process::background::after_fork_in_child;
    #[pymodule_export]
    use crate::py::process::fork::{
        stores_after_fork_in_child, stores_after_fork_in_parent, stores_before_fork,
    };
    #[pymodule_export]
    use crate::py::process::logging::reset_logging;
    #[pymodule_export]
    use crate::py::process::panics::_panics;
    #[cfg(unix)]
    #[pymodule_export]
    use crate::py::remote::RemoteSocket;
    #[pymodule_export]
    use crate::py::remote::{RemoteLane, RemoteReplies, command, commands, entries, one_entry, places};
    #[pymodule_export]
    use crate::py::replay::{parse_plain, replay_trace};
    #[pymodule_export]
    use crate::py::sessions::{
        DiskSession, MemoryKeys, MemorySession, MemorySessionTransaction, SessionCall, SessionCodec,
    };
    #[cfg(has_shared_cache)]
    #[pymodule_export]
    use crate::py::shared::{SharedHold, SharedSegment, SharedVersion};
    #[pymodule_export]
    use crate::py::store::cached_result::expired_result;
    #[pymodule_export]
    use crate::py::store::cached_result::{CachedResult, InstanceResults};
    #[pymodule_export]
    use crate::py::store::exception_copy::copy_of_exception;
    #[pymodule_export]
    use crate::py::store::loads::{CircularLoadError, LoadCancelled, LoadFailedElsewhere};
    #[pymodule_export]
    use crate::py::store::push_tracker::{TrackerHandle, WriteInFlight};
    #[pymodule_export]
    use crate::py::store::tracked_lease::LeaseHolder;
    #[pymodule_export]
    use crate::py::testing::{_advance_clock, _check, _has_negative_controls};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::py::process::panics::count();
        #[cfg(feature = "negative-controls")]
        // Not exported, since other builds and the stubs do not have it.
        module.setattr(
            "_panic_in_background",
            pyo3::wrap_pyfunction!(crate::py::testing::_panic_in_background, module)?,
        )?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("_KEYWORDS", crate::py::memoize::call_key::KeywordMark::get(module.py())?)?;
        module.add("_DISK_EVICTION_POLICIES", crate::py::disk::eviction_policies(module.py())?)?;
        module.add("_DISK_PRAGMAS", crate::py::disk::pragmas(module.py())?)?;
        crate::py::process::wall_clock::install(module.py())?;
        crate::py::disk::install(module.py())?;
        crate::py::memory::fast::install(module.py())?;
        crate::py::memory::listed_keys::install(module.py());
        crate::py::memory::near::install(module.py())?;
        crate::py::sessions::fast::install(module.py())?;
        #[cfg(has_shared_cache)]
        crate::py::shared::install(module.py())?;
        crate::py::memoize::memoized::install(module.py())?;
        let os = module.py().import("os")?;
        if os.hasattr("register_at_fork")? {
            let hook = PyDict::new(module.py());
            hook.set_item("after_in_child", module.getattr("after_fork_in_child")?)?;
            os.call_method("register_at_fork", (), Some(&hook))?;
            let stores = PyDict::new(module.py());
            stores.set_item("before", module.getattr("stores_before_fork")?)?;
            stores.set_item("after_in_parent", module.getattr("stores_after_fork_in_parent")?)?;
            stores.set_item("after_in_child", module.getattr("stores_after_fork_in_child")?)?;
            os.call_method("register_at_fork", (), Some(&stores))?;
        }
        Ok(())
    }
}
