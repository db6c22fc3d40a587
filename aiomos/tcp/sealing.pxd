# Classes of which only compiled code makes objects: made by hand they would lack what their methods rely on.

cdef extern from *:
    """
    /* X() and X.__new__(X) raise TypeError; compiled code calls what stood in tp_new by its own name. */
    static int aiomos_seal(PyTypeObject *sealed) {
        sealed->tp_new = NULL;
        sealed->tp_vectorcall = NULL;
        sealed->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
        sealed->tp_flags &= ~Py_TPFLAGS_BASETYPE;
        if (PyDict_DelItemString(sealed->tp_dict, "__new__") < 0) return -1;
        PyType_Modified(sealed);
        return 0;
    }

    /* A class that only compiled classes extend: its own __cinit__, or that of its first base, asks is_part(). */
    static void aiomos_mark_part(PyTypeObject *part) {
        part->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
        part->tp_flags &= ~Py_TPFLAGS_BASETYPE;
        PyType_Modified(part);
    }

    static int aiomos_is_part(PyObject *object) {
        return (Py_TYPE(object)->tp_flags & Py_TPFLAGS_DISALLOW_INSTANTIATION) != 0;
    }
    """
    int seal "aiomos_seal" (type made) except -1
    void mark_part "aiomos_mark_part" (type part)
    bint is_part "aiomos_is_part" (object made)
