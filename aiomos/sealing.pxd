# Classes of which only compiled code makes objects: made by hand they would lack what their methods rely on.

cdef extern from *:
    """
    /* X() and X.__new__(X) raise TypeError; compiled code calls what stood in tp_new by its own name. */
    static int aiomos_seal(PyTypeObject *sealed) {
        sealed->tp_new = NULL;
        sealed->tp_vectorcall = NULL;
        sealed->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
        if (PyDict_DelItemString(sealed->tp_dict, "__new__") < 0) return -1;
        PyType_Modified(sealed);
        return 0;
    }

    /* A class that is complete only as what it is a base of: the __cinit__ of the first one asks is_part(). */
    static void aiomos_mark_part(PyTypeObject *part) {
        part->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
        PyType_Modified(part);
    }

    static int aiomos_is_part(PyObject *object) {
        PyTypeObject *made = Py_TYPE(object);
        while (made->tp_flags & Py_TPFLAGS_HEAPTYPE) made = made->tp_base;     /* what Python has made of it */
        return (made->tp_flags & Py_TPFLAGS_DISALLOW_INSTANTIATION) != 0;
    }
    """
    int seal "aiomos_seal" (type made) except -1
    void mark_part "aiomos_mark_part" (type part)
    bint is_part "aiomos_is_part" (object made)
