/*
 * Many small files of a Linux disk with few calls: looked at, read, written.
 *
 * What Python does for one small file is five to eight system calls, and after
 * each of them it waits for the interpreter lock. Here the lock is given up
 * once: for a file that is read, for a batch that is looked at or written.
 *
 * Nothing here decides anything. Whatever is not as expected is undone and
 * left to the Python code, which does the same step by step and knows what to
 * say about it.
 */
#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NS 1000000000LL
#define MAX_TEMPORARY 64
#define RENAME_NEVER_REPLACE 1u

static int64_t ns_of(struct timespec t) {
    return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

/* ---- looking */

static PyStructSequence_Field status_fields[] = {
    {"st_mode", NULL}, {"st_ino", NULL},      {"st_dev", NULL},      {"st_nlink", NULL},
    {"st_uid", NULL},  {"st_gid", NULL},      {"st_size", NULL},     {"st_mtime_ns", NULL},
    {"st_ctime_ns", NULL}, {"st_rdev", NULL}, {NULL, NULL},
};

static PyStructSequence_Desc status_desc = {
    .name = "loopbackup.vault.disk.Status",
    .doc = "What lstat says of one entry; times in nanoseconds only.",
    .fields = status_fields,
    .n_in_sequence = 10,
};

static PyObject *status_of(PyTypeObject *type, const struct stat *s) {
    PyObject *status = PyStructSequence_New(type);
    if (status == NULL) {
        return NULL;
    }
    PyObject *values[] = {
        PyLong_FromUnsignedLong(s->st_mode),
        PyLong_FromUnsignedLongLong(s->st_ino),
        PyLong_FromUnsignedLongLong(s->st_dev),
        PyLong_FromUnsignedLongLong(s->st_nlink),
        PyLong_FromUnsignedLong(s->st_uid),
        PyLong_FromUnsignedLong(s->st_gid),
        PyLong_FromLongLong(s->st_size),
        PyLong_FromLongLong(ns_of(s->st_mtim)),
        PyLong_FromLongLong(ns_of(s->st_ctim)),
        PyLong_FromUnsignedLongLong(s->st_rdev),
    };
    int failed = 0;
    for (Py_ssize_t i = 0; i < 10; i++) {
        failed |= values[i] == NULL;
        /* Takes the reference, of what is missing too. */
        PyStructSequence_SetItem(status, i, values[i]);
    }
    if (failed) {
        Py_DECREF(status);
        return NULL;
    }
    return status;
}

/* Seconds that do not fit nanoseconds of 64 bits are left to Python. */
static int has_odd_times(const struct stat *s) {
    int64_t most = INT64_MAX / NS - 1;
    return s->st_mtim.tv_sec > most || s->st_mtim.tv_sec < -most || s->st_ctim.tv_sec > most ||
           s->st_ctim.tv_sec < -most;
}

PyDoc_STRVAR(look_doc,
             "look(dir_fd, names) -> list: what lstat says of each name in a folder,\n"
             "or the error number as an int.");

static PyObject *disk_look(PyObject *module, PyObject *args) {
    PyTypeObject *type = *(PyTypeObject **)PyModule_GetState(module);
    int fd;
    PyObject *given;
    if (!PyArg_ParseTuple(args, "iO:look", &fd, &given)) {
        return NULL;
    }
    /* A tuple of our own: nobody can take names away while the lock is not held. */
    PyObject *names = PySequence_Tuple(given);
    if (names == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(names);
    const char **texts = calloc((size_t)count + 1, sizeof *texts);
    struct stat *found = calloc((size_t)count + 1, sizeof *found);
    int *codes = calloc((size_t)count + 1, sizeof *codes);
    PyObject *result = NULL;
    if (texts == NULL || found == NULL || codes == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char *text;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(names, i), &text, &size) < 0) {
            goto done;
        }
        if (strlen(text) != (size_t)size) {
            PyErr_SetString(PyExc_ValueError, "a name with a zero byte");
            goto done;
        }
        texts[i] = text;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; i++) {
        if (fstatat(fd, texts[i], &found[i], AT_SYMLINK_NOFOLLOW) < 0) {
            codes[i] = errno;
        } else if (has_odd_times(&found[i])) {
            codes[i] = EOVERFLOW;
        }
    }
    Py_END_ALLOW_THREADS
    result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *one = codes[i] ? PyLong_FromLong(codes[i]) : status_of(type, &found[i]);
        if (one == NULL || PyList_SetItem(result, i, one) < 0) {
            Py_CLEAR(result);
        }
    }
done:
    free(texts);
    free(found);
    free(codes);
    Py_DECREF(names);
    return result;
}

/* ---- reading */

typedef struct {
    int64_t size, mtime_ns, ctime_ns;
    uint64_t inode;
} seen;

static int is_as_seen(int fd, const seen *as, struct stat *s) {
    return fstat(fd, s) == 0 && S_ISREG(s->st_mode) && !has_odd_times(s) &&
           (int64_t)s->st_size == as->size && ns_of(s->st_mtim) == as->mtime_ns &&
           ns_of(s->st_ctim) == as->ctime_ns && (uint64_t)s->st_ino == as->inode;
}

static int has_xattrs(int fd) {
    ssize_t size = flistxattr(fd, NULL, 0);
    return size > 0 || (size < 0 && errno != ENOTSUP && errno != ENOSYS);
}

static int read_all(int fd, char *into, int64_t size) {
    while (size > 0) {
        ssize_t got = read(fd, into, (size_t)size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return 0;
        }
        into += got;
        size -= got;
    }
    return 1;
}

static int open_quietly(int dir_fd, const char *name) {
    /* What has become a named pipe would block for ever without O_NONBLOCK. */
    int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = openat(dir_fd, name, flags | O_NOATIME);
    /* Only the owner may leave the time of last access alone. */
    return fd < 0 && errno == EPERM ? openat(dir_fd, name, flags) : fd;
}

static int read_seen(int dir_fd, const char *name, const seen *as, char *into) {
    int fd = open_quietly(dir_fd, name);
    if (fd < 0) {
        return 0;
    }
    struct stat s;
    int good = is_as_seen(fd, as, &s) && (int64_t)s.st_blocks * 512 >= as->size &&
               !has_xattrs(fd) && read_all(fd, into, as->size) && is_as_seen(fd, as, &s);
    close(fd);
    return good;
}

PyDoc_STRVAR(read_doc,
             "read(dir_fd, name, size, mtime_ns, ctime_ns, inode) -> bytes | None: the content of\n"
             "a regular file; None when it is not as given, before and after, or has holes,\n"
             "extended attributes or anything else to look at.");

static PyObject *disk_read(PyObject *module, PyObject *args) {
    (void)module;
    int fd;
    const char *name;
    long long size, mtime_ns, ctime_ns;
    unsigned long long inode;
    if (!PyArg_ParseTuple(args, "iyLLLK:read", &fd, &name, &size, &mtime_ns, &ctime_ns, &inode)) {
        return NULL;
    }
    if (size < 0 || size > PY_SSIZE_T_MAX) {
        PyErr_SetString(PyExc_ValueError, "a size is not negative, nor beyond memory");
        return NULL;
    }
    seen as = {size, mtime_ns, ctime_ns, inode};
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (data == NULL) {
        return NULL;
    }
    char *into = PyBytes_AsString(data);
    int good;
    Py_BEGIN_ALLOW_THREADS
    good = read_seen(fd, name, &as, into);
    Py_END_ALLOW_THREADS
    if (!good) {
        Py_DECREF(data);
        Py_RETURN_NONE;
    }
    return data;
}

/* ---- writing */

typedef struct {
    int dir_fd;
    const char *name;
    Py_buffer data;
    unsigned int mode, uid, gid;
    long long mtime_ns;
    int code;
} file;

static int write_all(int fd, const char *from, size_t size) {
    while (size > 0) {
        ssize_t put = write(fd, from, size);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            /* A file system that takes nothing would be asked for ever. */
            errno = put == 0 ? EIO : errno;
            return -1;
        }
        from += put;
        size -= (size_t)put;
    }
    return 0;
}

static int fill(int fd, const file *f) {
    struct timespec t = {f->mtime_ns / NS, f->mtime_ns % NS};
    if (t.tv_nsec < 0) {
        t.tv_sec -= 1;
        t.tv_nsec += NS;
    }
    struct timespec times[2] = {t, t};
    if (write_all(fd, f->data.buf, (size_t)f->data.len) < 0 || fchown(fd, f->uid, f->gid) < 0 ||
        fchmod(fd, f->mode) < 0 || futimens(fd, times) < 0) {
        return errno;
    }
    return 0;
}

static int write_one(const file *f, const char *temporary) {
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(f->dir_fd, temporary, flags, 0600);
    if (fd < 0) {
        return errno;
    }
    int code = fill(fd, f);
    if (close(fd) < 0 && code == 0) {
        code = errno;
    }
    if (code == 0 && syscall(SYS_renameat2, f->dir_fd, temporary, f->dir_fd, f->name,
                             RENAME_NEVER_REPLACE) < 0) {
        code = errno;
    }
    if (code != 0) {
        unlinkat(f->dir_fd, temporary, 0);
    }
    return code;
}

static void write_batch(file *files, Py_ssize_t count, const char *prefix, long long number) {
    char temporary[MAX_TEMPORARY + 24];
    for (Py_ssize_t i = 0; i < count; i++) {
        snprintf(temporary, sizeof temporary, "%s%lld", prefix, number + i);
        files[i].code = write_one(&files[i], temporary);
        if (files[i].code == ENOSPC || files[i].code == EDQUOT) {
            /* The rest would only take the room that the first ones could not have. */
            for (Py_ssize_t rest = i + 1; rest < count; rest++) {
                files[rest].code = files[i].code;
            }
            return;
        }
    }
}

PyDoc_STRVAR(write_doc,
             "write(prefix, number, files) -> list[int]: make each (dir_fd, name, data, mode, uid,\n"
             "gid, mtime_ns), first under a temporary name of the prefix and a number that counts\n"
             "up. Gives 0 for each that stands complete under its name, else an error number;\n"
             "then nothing is left of it. Never replaces anything.");

static PyObject *disk_write(PyObject *module, PyObject *args) {
    (void)module;
    const char *prefix;
    long long number;
    PyObject *given;
    if (!PyArg_ParseTuple(args, "yLO:write", &prefix, &number, &given)) {
        return NULL;
    }
    if (strlen(prefix) > MAX_TEMPORARY) {
        PyErr_SetString(PyExc_ValueError, "the prefix is too long");
        return NULL;
    }
    PyObject *entries = PySequence_Tuple(given);
    if (entries == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(entries), held = 0;
    PyObject *result = NULL;
    file *files = calloc((size_t)count + 1, sizeof *files);
    if (files == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; held < count; held++) {
        file *f = &files[held];
        if (!PyTuple_Check(PyTuple_GetItem(entries, held))) {
            PyErr_SetString(PyExc_TypeError, "a file is a tuple");
            goto done;
        }
        if (!PyArg_ParseTuple(PyTuple_GetItem(entries, held), "iyy*IIIL", &f->dir_fd, &f->name,
                              &f->data, &f->mode, &f->uid, &f->gid, &f->mtime_ns)) {
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    write_batch(files, count, prefix, number);
    Py_END_ALLOW_THREADS
    result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *code = PyLong_FromLong(files[i].code);
        if (code == NULL || PyList_SetItem(result, i, code) < 0) {
            Py_CLEAR(result);
        }
    }
done:
    for (Py_ssize_t i = 0; i < held; i++) {
        PyBuffer_Release(&files[i].data);
    }
    free(files);
    Py_DECREF(entries);
    return result;
}

/* ---- the module */

static int disk_exec(PyObject *module) {
    PyTypeObject **type = PyModule_GetState(module);
    *type = PyStructSequence_NewType(&status_desc);
    if (*type == NULL) {
        return -1;
    }
    /* The module's dictionary holds it for as long as the module lives. */
    return PyModule_AddObjectRef(module, "Status", (PyObject *)*type);
}

static void disk_free(void *module) {
    PyTypeObject **type = PyModule_GetState(module);
    if (type != NULL) {
        Py_CLEAR(*type);
    }
}

static PyMethodDef disk_methods[] = {
    {"look", disk_look, METH_VARARGS, look_doc},
    {"read", disk_read, METH_VARARGS, read_doc},
    {"write", disk_write, METH_VARARGS, write_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot disk_slots[] = {
    {Py_mod_exec, (void *)disk_exec},
    {0, NULL},
};

static struct PyModuleDef disk_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_disk",
    .m_doc = "Many small files with few calls.",
    .m_size = sizeof(PyTypeObject *),
    .m_methods = disk_methods,
    .m_slots = disk_slots,
    .m_free = disk_free,
};

PyMODINIT_FUNC PyInit__disk(void) {
    return PyModuleDef_Init(&disk_module);
}
