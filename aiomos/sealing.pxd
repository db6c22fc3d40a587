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
    """
    int seal "aiomos_seal" (type made) except -1
