//! `[]`, `[]=`, `del` and `in` of a class, called by the interpreter without PyO3's wrapping.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The slots of a class that PyO3 made with all of these methods.
pub(crate) struct FastSlots {
    subscript: ffi::binaryfunc,
    assign: ffi::objobjargproc,
    contains: ffi::objobjproc,
    /// The slots as PyO3 made them, which a subclass takes from the methods of its base.
    made_by_pyo3: [AtomicPtr<c_void>; 3],
}

impl FastSlots {
    pub(crate) const fn new(
        subscript: ffi::binaryfunc,
        assign: ffi::objobjargproc,
        contains: ffi::objobjproc,
    ) -> Self {
        Self { subscript, assign, contains, made_by_pyo3: [const { AtomicPtr::new(ptr::null_mut()) }; 3] }
    }

    /// Puts the slots on the class. Called once, before a subclass can be made.
    ///
    /// # Safety
    ///
    /// PyO3 made the class, with all these methods, and the slots may be called on its instances.
    pub(crate) unsafe fn install(&self, class: &Bound<'_, PyType>) {
        let of = class.as_type_ptr();
        // SAFETY: a class made on the heap has both tables, and the caller's promise.
        unsafe {
            let made_by_pyo3 = [
                (*(*of).tp_as_mapping).mp_subscript.map(|slot| slot as *mut c_void),
                (*(*of).tp_as_mapping).mp_ass_subscript.map(|slot| slot as *mut c_void),
                (*(*of).tp_as_sequence).sq_contains.map(|slot| slot as *mut c_void),
            ];
            for (place, slot) in self.made_by_pyo3.iter().zip(made_by_pyo3) {
                // A module that is initialized a second time finds our functions in the slots.
                if place.load(Ordering::Relaxed).is_null() {
                    place.store(slot.unwrap_or(ptr::null_mut()), Ordering::Relaxed);
                }
            }
            (*(*of).tp_as_mapping).mp_subscript = Some(self.subscript);
            (*(*of).tp_as_mapping).mp_ass_subscript = Some(self.assign);
            (*(*of).tp_as_sequence).sq_contains = Some(self.contains);
            ffi::PyType_Modified(of);
        }
    }

    /// Gives a subclass the fast slots, except those that it defines itself.
    ///
    /// # Safety
    ///
    /// It is a subclass of the class, made on the heap, or the class.
    pub(crate) unsafe fn hurry_instances_of(&self, class: &Bound<'_, PyType>) {
        let of = class.as_type_ptr();
        // SAFETY: such a class has both tables; the thread is attached.
        unsafe {
            let [subscript, assign, contains] =
                self.made_by_pyo3.each_ref().map(|slot| slot.load(Ordering::Relaxed));
            let mapping = (*of).tp_as_mapping;
            if (*mapping).mp_subscript.is_some_and(|slot| slot as *mut c_void == subscript) {
                (*mapping).mp_subscript = Some(self.subscript);
            }
            if (*mapping).mp_ass_subscript.is_some_and(|slot| slot as *mut c_void == assign) {
                (*mapping).mp_ass_subscript = Some(self.assign);
            }
            let sequence = (*of).tp_as_sequence;
            if (*sequence).sq_contains.is_some_and(|slot| slot as *mut c_void == contains) {
                (*sequence).sq_contains = Some(self.contains);
            }
        }
    }
}
